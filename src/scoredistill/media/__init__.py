"""Images, videos and motion: reading and writing files, conversion to tensors, optical flow."""
