"""A recurrent layer you can read, look inside, trust to the last digit, and time, on numpy alone."""
