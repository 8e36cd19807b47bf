"""Publication of weights: the model card, and files on the Hugging Face Hub."""
