"""The commands of ``tool``, thin: parse → Settings → one call → render."""
