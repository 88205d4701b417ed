"""Where meta-training draws its tasks from: one file for each documented distribution."""
