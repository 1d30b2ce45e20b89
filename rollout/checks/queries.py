"""The application's top queries, each of which must be able to use an index."""
