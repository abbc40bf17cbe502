//! Every cause, seen on what a cluster really told.
