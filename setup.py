"""Which folder becomes which package: everything else is said in pyproject.toml."""

from setuptools import find_packages, setup

# Generic names stay out of site-packages: a deployment's folders are installed below one name (docs/adr/0012).
FOLDERS = ("assets", "checks", "stack", "streams")

setup(
    packages=[
        *find_packages(include=["feature_store*"]),
        *(
            f"feature_store_deploy.{name}"
            for name in find_packages(include=[*FOLDERS, *(f"{each}.*" for each in FOLDERS)])
        ),
    ],
    package_dir={f"feature_store_deploy.{folder}": folder for folder in FOLDERS},
)
