//! The PersistentVolumeClaim of a Data.
