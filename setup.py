"""Packaging of Perfd. Tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

EXTRAS = {
    # What `perfd export --format parquet` needs.
    "parquet": ["pyarrow>=17"],
    # What the SpeedIndex of a page load needs.
    "browser": ["Pillow>=10.3"],
    # What page loads with `driver = selenium` need.
    "selenium": ["selenium>=4.27"],
    # What `make test` needs.
    "test": [
        "hypothesis>=6.100",
        "mypy>=1.13",
        "mypy-zope>=1.0.9",
        "openapi-spec-validator>=0.7",
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "ruff>=0.8",
        "schemathesis>=4.0",
    ],
}

setup(
    name="perfd",
    version="0.1.0",
    description="Measures the performance of Tor, continuously, as a Twisted daemon",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    # The "" entry makes an editable install a plain path entry: Twisted finds
    # plugins by scanning sys.path and cannot see through an import finder.
    package_dir={"": "."},
    packages=[*find_packages(include=["perfd", "perfd.*"]), "twisted.plugins"],
    package_data={"perfd": ["py.typed", "store/schema/*.sql", "templates/*"]},
    install_requires=[
        "Twisted>=24.7",
        "txtorcon>=24.8",
        "attrs>=24.1",
        "cryptography>=43",
        "rich>=13.7",
        "prometheus_client>=0.20",
        "wsproto>=1.2",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["perfd = perfd.cli.command:main"]},
    zip_safe=False,
)
