//! What an image executes by itself: main is started through `knitd wrap`, so that its entrypoint must be known
//! where the Plan does not say it.
