"""The commands of ``metamd``, in groups; each is a few lines around one function."""
