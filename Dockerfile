# Two images: `docker build --target cpu -t tiebreak .` and `docker build --target cuda -t tiebreak:cuda .`
# Run: `docker run --rm -it tiebreak run quick`; with GPUs: `docker run --rm -it --gpus all tiebreak:cuda doctor`.
#
# The package index has builds of torch for Linux with CUDA only, which also run on a CPU. To use CPU
# builds that you have elsewhere, pass --build-arg PIP_FIND_LINKS=… or PIP_EXTRA_INDEX_URL=….

FROM python:3.11-slim-bookworm AS base
ARG PIP_FIND_LINKS
ARG PIP_EXTRA_INDEX_URL
# g++ and make: torch's mode compile and the Makefile. EGL, OSMesa and GLVND: videos without a display.
RUN apt-get update && apt-get install -y --no-install-recommends g++ git libegl1 libgl1 libglvnd0 libosmesa6 make procps && rm -rf /var/lib/apt/lists/*
WORKDIR /tiebreak
COPY . .
RUN python3 -m venv .venv && .venv/bin/python -m pip install --no-cache-dir --upgrade pip
ENV PATH=/tiebreak/.venv/bin:$PATH
ENTRYPOINT ["tiebreak"]
CMD ["--help"]

FROM base AS cpu
RUN .venv/bin/python -m pip install --no-cache-dir -e '.[all]' -c constraints.txt

FROM base AS cuda
RUN .venv/bin/python -m pip install --no-cache-dir -e '.[all]' 'jax[cuda12]' -c constraints.txt
