//! Lineage: which Data and Runs a Data comes from and leads to.
