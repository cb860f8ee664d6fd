"""Where bags lie: files of every kind, and packed folders of parts."""
