# HAProxy from Debian's packages, with one write port and one read port for a Tamada cluster.
ARG BASE_IMAGE=debian:trixie-slim
FROM ${BASE_IMAGE}
COPY docker/dpkg-slim /etc/dpkg/dpkg.cfg.d/slim
RUN --mount=type=bind,source=docker/apt-install,target=/apt-install \
    groupadd --system --gid 901 haproxy \
 && useradd --system --uid 901 --gid 901 --home-dir /nonexistent --shell /usr/sbin/nologin haproxy \
 && /apt-install haproxy
COPY docker/haproxy.cfg /etc/haproxy/haproxy.cfg
COPY docker/haproxy-health /usr/local/bin/haproxy-health
LABEL org.opencontainers.image.title="HAProxy for Tamada" \
      org.opencontainers.image.description="HAProxy from Debian's packages, routing to the primary and the replicas"
USER haproxy
EXPOSE 5000 5001 7000
# As master and worker HAProxy honours SIGTERM as PID 1 too; -db keeps it in the foreground.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["haproxy-health"]
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"]
