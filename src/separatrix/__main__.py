"""`python -m separatrix`, the same as the console script `separatrix`."""

from separatrix.cli.main import main

if __name__ == "__main__":
    main()
