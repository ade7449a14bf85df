pytest_plugins = ["limpet.testing.plugin"]
