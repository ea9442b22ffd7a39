"""What a method is: its metadata (`spec`), its contract (`contract`), and the tests it must pass (`conformance`)."""
