"""Import names for code that was written for other packages; `openavc.interfaces` implements them."""
