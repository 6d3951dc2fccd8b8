"""Puts the recipes into the wheel, as `transformer/configs/`. All else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install reads them from the checkout
            target = Path(self.build_lib, "transformer", "configs")
            shutil.copytree("configs", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})
