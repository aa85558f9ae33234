"""Methods that ViTCoP is compared with, and controls: one small file each."""
