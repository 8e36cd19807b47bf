"""The names that code written for other packages imports; what stands behind them is in `openavc.interfaces`."""
