//! The dataset: images of 8x8 pixels and the digit that each one shows, as lines of numbers.

use crate::problem::Problem;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Pixels of an image.
pub const PIXELS: usize = 64;
/// Digits to tell apart.
pub const CLASSES: usize = 10;
/// Value of a black pixel in the file.
const BLACK: u8 = 16;
/// A correct line is shorter than 200 bytes; a longer one than this is not read to its end.
const LONGEST_LINE: u64 = 1024;

/// An image and what it shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Digit {
    /// Row by row, from 0.0 (white) to 1.0 (black).
    pub pixels: [f64; PIXELS],
    /// 0 to 9.
    pub label: usize,
}

/// All images of the file at `path`, in its order. A file without any is an error.
pub fn read(path: &Path) -> Result<Vec<Digit>, Problem> {
    let file = File::open(path).map_err(|cause| Problem::reading(path, cause))?;
    let mut digits = Vec::new();
    for_each_line(BufReader::new(file), LONGEST_LINE, path, |line, text| {
        digits.push(parse(text).map_err(|what| Problem::in_line(path, line, what))?);
        Ok(())
    })?;
    if digits.is_empty() {
        return Err(Problem::TooShort { path: path.to_owned(), what: "holds no images".to_owned() });
    }
    Ok(digits)
}

/// Hands every line of `reader` and its number, counted from 1, to `take`. A line of more than
/// `longest` bytes is refused, so that memory stays bounded whatever the file holds.
pub(crate) fn for_each_line(
    mut reader: impl BufRead,
    longest: u64,
    path: &Path,
    mut take: impl FnMut(usize, &str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let length = reader.by_ref().take(longest).read_until(b'\n', &mut bytes);
        if length.map_err(|cause| Problem::reading(path, cause))? == 0 {
            break;
        }
        if bytes.len() as u64 == longest && bytes.last() != Some(&b'\n') {
            return Err(Problem::in_line(path, line, format!("is longer than {longest} bytes")));
        }
        let text = str::from_utf8(&bytes).map_err(|_| Problem::in_line(path, line, "is not text"))?;
        take(line, text.trim_end_matches(['\r', '\n']))?;
    }
    Ok(())
}

/// One line: 64 pixels and the digit, separated by commas.
fn parse(text: &str) -> Result<Digit, String> {
    let fields = text.split(',').count();
    if fields != PIXELS + 1 {
        return Err(format!("has {fields} fields instead of {}: 64 pixels and the digit", PIXELS + 1));
    }
    let mut pixels = [0.0; PIXELS];
    let mut label = 0;
    for (position, field) in text.split(',').enumerate() {
        let (name, largest) = if position < PIXELS { ("pixel", BLACK) } else { ("digit", 9) };
        let value = field.trim().parse::<u8>().ok().filter(|value| *value <= largest).ok_or_else(|| {
            format!("field {} is {field:?}: a {name} is a whole number from 0 to {largest}", position + 1)
        })?;
        match pixels.get_mut(position) {
            Some(pixel) => *pixel = f64::from(value) / f64::from(BLACK),
            None => label = usize::from(value),
        }
    }
    Ok(Digit { pixels, label })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pixel: &str, label: &str) -> String {
        let mut fields = vec![pixel; PIXELS];
        fields.push(label);
        fields.join(",")
    }

    fn read_text(text: &[u8]) -> Result<Vec<Digit>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        std::fs::write(&path, text).unwrap();
        let said = |problem: Problem| problem.to_string().replace(&format!("{}/", folder.path().display()), "");
        read(&path).map_err(said)
    }

    #[test]
    fn a_line_becomes_an_image_with_pixels_between_zero_and_one() {
        let digits = read_text(format!("{}\n{}\r\n", line("16", "7"), line("4", "0")).as_bytes()).unwrap();
        assert_eq!(digits[0], Digit { pixels: [1.0; PIXELS], label: 7 });
        assert_eq!(digits[1], Digit { pixels: [0.25; PIXELS], label: 0 });
    }

    #[test]
    fn a_malformed_line_is_named_by_its_number_and_its_fault() {
        let good = line("0", "1");
        let cases = [
            ("1,2,3".to_owned(), "has 3 fields instead of 65: 64 pixels and the digit"),
            (line("17", "1"), "field 1 is \"17\": a pixel is a whole number from 0 to 16"),
            (line("0", "10"), "field 65 is \"10\": a digit is a whole number from 0 to 9"),
            (line("0", ""), "field 65 is \"\": a digit is a whole number from 0 to 9"),
            (line("-1", "1"), "field 1 is \"-1\": a pixel is a whole number from 0 to 16"),
            (line("000000000000000000000", "1"), "is longer than 1024 bytes"),
        ];
        for (bad, what) in cases {
            let problem = read_text(format!("{good}\n{bad}\n{good}\n").as_bytes()).unwrap_err();
            assert_eq!(problem, format!("train.csv, line 2: {what}"));
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        assert_eq!(read_text(b"\xff\xfe\n").unwrap_err(), "train.csv, line 1: is not text");
    }

    #[test]
    fn a_file_without_images_is_refused() {
        assert_eq!(read_text(b"").unwrap_err(), "train.csv: holds no images");
    }

    #[test]
    fn a_missing_file_is_named() {
        let problem = read(Path::new("/nowhere/train.csv")).unwrap_err().to_string();
        assert!(problem.starts_with("cannot read /nowhere/train.csv: "), "{problem}");
    }
}
