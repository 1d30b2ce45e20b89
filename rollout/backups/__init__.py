"""What a backup is made of: its files, manifest, dump and proof, and the directory where backups are kept."""
