"""How good it is: benchmarks and evaluations over the product's own doors."""
