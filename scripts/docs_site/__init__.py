"""Parts of the documentation site that are generated: reference pages, formulas, figures."""
