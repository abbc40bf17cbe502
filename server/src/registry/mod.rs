//! The image registry: the OCI distribution protocol over the content store.
