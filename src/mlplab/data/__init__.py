"""From a name in conf/data to tensors: reading, splitting, scaling, batching."""
