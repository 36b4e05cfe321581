"""mlplab: multilayer perceptrons for tables and images, trained, swept and compared honestly."""
