//! A connection to a door: to the Pod's address from inside the cluster, through the API server from outside.
