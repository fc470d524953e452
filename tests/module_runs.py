"""How often modules ran."""


def count_runs(modules):
    """Count the runs of modules from now on.

    Args:
        modules (dict[str, nn.Module]): Modules by a name.

    Returns:
        dict[str, int]: By the same name; it goes on counting.
    """
    runs = dict.fromkeys(modules, 0)

    def counter(name):

        def ran(*_):
            runs[name] += 1

        return ran

    for name, module in modules.items():
        module.register_forward_hook(counter(name))
    return runs
