"""The vector store on disk: an index in SQLite, vectors in shards."""
