"""Side by side with peers; see README.md."""
