"""What is handed to readers: the page, its Markdown and PDF, and the RO-Crate."""
