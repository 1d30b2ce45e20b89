"""Security: secrets are nobody's to read, our tables have one owner, files are private."""
