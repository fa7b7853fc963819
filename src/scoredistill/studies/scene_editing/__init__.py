"""The study of edited scenes: which way of editing their views makes them most like the true edit, at equal cost."""
