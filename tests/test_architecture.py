"""The rules about who may import, write and send what, held by machine, and each shown to catch a breach."""
