"""The scene-editing study: edits of posed scenes whose ground truth is known from all sides."""
