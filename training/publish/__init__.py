"""What goes beside published weights: the model card, and files on the Hugging Face Hub."""
