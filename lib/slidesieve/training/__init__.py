"""One seeded loop that resumes, what it is fed, where it stands; masked pre-training. Imports models and below."""
