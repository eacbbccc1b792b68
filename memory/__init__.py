"""What the system remembers: text by meaning, per tenant and user. Imports nothing of ours."""
