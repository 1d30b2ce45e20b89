"""Performance: indexes are valid and not there twice, foreign keys have one, the application's top queries use one."""
