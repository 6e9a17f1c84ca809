"""What the site of the documentation takes from the code: reference pages, formulas, figures."""
