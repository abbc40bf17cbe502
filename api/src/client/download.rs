//! Receiving a Data: the answer's body is fed to a reader on a thread of its own, and checked.

use super::incoming::{Arriving, Incoming, PartReader};
use super::upload::{form_of, media_type};
use super::{Client, ClientError};
use crate::bundle::{Digest, Form};
use crate::endpoint;
use crate::id::DataId;
use crate::server::capability;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, TE, TRAILER};
use std::io::Read;

/// The head of an answer that brings a Data; the bytes are still to come.
#[derive(Debug)]
pub struct Download {
    form: Form,
    registered: Option<Digest>,
    incoming: Incoming,
    must_have_checksum: bool,
}

/// Whether the bytes were compared with a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// They are what the server read.
    Yes,
    /// The server sent no checksum; that the stream is complete is known only from its own structure.
    NoChecksum,
}

/// Why a download failed: on the way, or in the reader.
#[derive(Debug)]
pub enum DownloadError<E> {
    /// Server or network.
    Receive(ClientError),
    /// What was done with the bytes.
    Read(E),
}

impl Client {
    /// The form in which a folder travels whole and cheaply from this server, if the server has ours.
    pub fn whole_folder(&self) -> Form {
        if self.is_loopback() { Form::Bundle } else { Form::BundleZstd }
    }

    /// Asks for a Data in this form. A server that does not know it answers with the original's tar.gz: see
    /// [`Download::form`]. That a bundle is what was registered is for the caller to compare: see
    /// [`Download::registered`].
    pub async fn download(&self, id: &DataId, wanted: Form) -> Result<Download, ClientError> {
        self.download_part(id, wanted, &[]).await
    }

    /// Asks for what these globs take of a Data, if there are any; see [`crate::bundle::Selection`]. Only of a
    /// server that announces [`capability::CONTENT`].
    pub async fn download_part(&self, id: &DataId, wanted: Form, globs: &[String]) -> Result<Download, ClientError> {
        let ours = self.can(capability::BUNDLE).await?;
        let query: Vec<_> = globs.iter().map(|glob| (endpoint::INCLUDE, glob.clone())).collect();
        let mut request = self.request(Method::GET, self.url(&endpoint::data(id), &query));
        if ours {
            request = request.header(ACCEPT, media_type(wanted)).header(TE, "trailers");
        }
        if ours && wanted != Form::TarGz && globs.is_empty() {
            request = request.header(endpoint::DIGEST, "compared");
        }
        let answer = self.send(request, None).await?;
        let form =
            answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map_or(Form::TarGz, form_of);
        let announced = answer.headers().get_all(TRAILER).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|names| names.split(',').any(|n| n.trim().eq_ignore_ascii_case(endpoint::CHECKSUM_MD5)))
        });
        let registered = answer.headers().get(endpoint::DIGEST).and_then(|value| value.to_str().ok());
        let registered = registered.map(str::parse).transpose().map_err(|e| ClientError::NotUnderstood {
            url: answer.url().to_string(),
            cause: format!("header {}: {e}", endpoint::DIGEST),
        })?;
        Ok(Download {
            form,
            registered,
            incoming: Incoming::new(answer, self.clone(), form == Form::TarGz),
            // An original server leaves it out now and then; ours never does.
            must_have_checksum: form == Form::TarGz && (announced || ours),
        })
    }
}

impl Download {
    /// The form in which the Data arrives.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The root digest that was registered for the Data, if the server keeps one and all of it is sent. The digest of
    /// a bundle must be this one: a server lets it end with another one for whoever compares.
    pub fn registered(&self) -> Option<Digest> {
        self.registered
    }

    /// Feeds the bytes to `read` on a thread of its own, and gives its result once the stream was
    /// received to its end and agrees with its checksum.
    ///
    /// A bundle is verified by whoever unpacks it: that is `read`'s part. `progress` is told of
    /// every part that arrives.
    pub async fn read_with<T, E, R>(
        self,
        progress: impl Fn(u64) + Send,
        read: R,
    ) -> Result<(T, Checked), DownloadError<E>>
    where
        R: FnOnce(&mut dyn Read) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let form = self.form;
        let must_have_checksum = self.must_have_checksum;
        let checked = self.incoming.read_with(progress, read).await?;
        match checked {
            (value, _) if form != Form::TarGz => Ok((value, Checked::Yes)),
            (value, Some(())) => Ok((value, Checked::Yes)),
            (_, None) if must_have_checksum => Err(DownloadError::Receive(ClientError::Integrity(
                "the server did not send the checksum of what it sent: the transfer is incomplete".to_owned(),
            ))),
            (value, None) => Ok((value, Checked::NoChecksum)),
        }
    }

    /// The stream as a reader for a thread that may wait, and what tells in the end whether it was whole.
    pub fn open(self) -> (PartReader, Arriving) {
        self.incoming.open()
    }
}
