"""From verified files to arrays, from arrays to tensors on a device; orders of visit."""
