# etcd from Debian's packages, and the one-shot program that makes the secrets of the compose cluster.
ARG BASE_IMAGE=debian:trixie-slim
FROM ${BASE_IMAGE}
COPY docker/dpkg-slim /etc/dpkg/dpkg.cfg.d/slim
RUN --mount=type=bind,source=docker/apt-install,target=/apt-install \
    groupadd --system --gid 900 etcd \
 && useradd --system --uid 900 --gid 900 --home-dir /var/lib/etcd --shell /usr/sbin/nologin etcd \
 && /apt-install etcd-server etcd-client openssl \
 && install -d -o etcd -g etcd -m 0700 /var/lib/etcd
COPY docker/make-secrets /usr/local/bin/make-secrets
LABEL org.opencontainers.image.title="etcd for Tamada" \
      org.opencontainers.image.description="etcd from Debian's packages"
USER etcd
VOLUME /var/lib/etcd
EXPOSE 2379 2380
ENTRYPOINT ["etcd"]
