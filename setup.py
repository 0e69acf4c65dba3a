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
    # What `perfd analyze --plots` needs.
    "plots": ["matplotlib>=3.8"],
    # What `make test` needs.
    "test": [
        "hypothesis>=6.100",
        "mypy>=1.13",
        "mypy-zope>=1.0.9",
        "openapi-spec-validator>=0.7",
        "pandas>=2.2",
        "polars>=1.0",
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "ruff>=0.8",
        "schemathesis>=4.0",
        "scipy>=1.11",
        "setuptools>=70.1",
    ],
}

# Beside the package, under the prefix of the environment that a wheel is installed into.
DATA_FILES = [
    ("share/perfd", ["perfd.tac", "perfd.conf", "init/perfd.service"]),
    ("share/perfd/prometheus", ["perfd/templates/prometheus/perfd.rules.yml"]),
    (
        "share/perfd/grafana",
        sorted(str(path.relative_to(HERE)) for path in HERE.glob("perfd/templates/grafana/*.json")),
    ),
    ("share/doc/perfd", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"]),
    ("share/doc/perfd/docs", sorted(str(path.relative_to(HERE)) for path in HERE.glob("docs/*.[mp][dn]*"))),
]

setup(
    name="perfd",
    version="0.1.0",
    description="Measures the performance of Tor, continuously, as a Twisted daemon",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The Perfd contributors",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    keywords=["tor", "performance", "measurement", "onion service", "twisted", "socks"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: Science/Research",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet",
        "Topic :: System :: Networking :: Monitoring",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # The "" entry makes an editable install a plain path entry: Twisted finds
    # plugins by scanning sys.path and cannot see through an import finder.
    package_dir={"": "."},
    packages=[*find_packages(include=["perfd", "perfd.*"]), "twisted.plugins"],
    data_files=DATA_FILES,
    package_data={
        "perfd": ["py.typed", "store/schema/*.sql", "templates/*", "templates/*/*", "charts/*.css", "pages/*.css"]
    },
    install_requires=[
        "Twisted[tls]>=24.7",
        "txtorcon>=24.8",
        "argcomplete>=3.1",
        "attrs>=24.1",
        "cryptography>=43",
        "markupsafe>=2.1",
        "rich>=13.7",
        "prometheus_client>=0.20",
        "pyOpenSSL>=24.3",
        "service_identity>=24.1",
        "wsproto>=1.2",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["perfd = perfd.cli.command:main"]},
    zip_safe=False,
)
