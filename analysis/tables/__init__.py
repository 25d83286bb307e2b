"""Tables: early and late performance, differences, what was selected; as text, for LaTeX, as numbers for others."""
