"""Report: results as JSON, tables and figures made from them."""
