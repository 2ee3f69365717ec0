"""What is checked of arguments and of users' classes and losses, before anything runs."""
