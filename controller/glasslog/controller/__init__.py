"""The controller: decides what the cluster's metadata becomes, over a log that a quorum keeps."""
