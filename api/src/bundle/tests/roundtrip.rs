//! What goes in comes out.

use super::super::*;
use super::trees::*;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

#[test]
fn a_folder_comes_back_as_it_was() {
    for form in [Form::Bundle, Form::BundleZstd] {
        let from = sample();
        let (stream, sent) = packed(from.path(), form).unwrap();
        let into = temp();
        let received = unpacked(&stream, form, into.path()).unwrap();
        assert_eq!(read_tree(into.path()), read_tree(from.path()), "{form:?}");
        assert_eq!(sent, received);
        assert_eq!(sent.digest.unwrap(), sealed(from.path()).digest);
        assert_eq!(sent.digest.unwrap(), sealed(into.path()).digest);
        let inode = |name: &str| fs::metadata(into.path().join(name)).unwrap().ino();
        assert_eq!(inode("a/tool"), inode("tool2"));
        assert_eq!(inode("a/tool"), inode("tool3"));
    }
}
