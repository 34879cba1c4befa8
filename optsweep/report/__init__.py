"""From run directories to tables and figures; never imports torch."""
