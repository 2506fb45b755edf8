"""Where tables come from: files and folders, buckets, databases and the web, each read in bounded memory."""
