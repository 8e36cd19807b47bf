"""What commands print and write: options they share, tables, published figures, pictures."""
